# A gateway that people reach over any network: TLS to the gateway itself, and a certificate instead of a password.

gateway {
  records { path = "/var/log/viaduct/records.ndjson" }
}

# Laptops and phones, wherever they are: the company's certificate lets them in, and says who they are.
listener "anywhere" {
  address = ":8443"
  policy  = policy.people

  tls {
    certificate        = "gate.crt" # https://gate.corp.example:8443
    key                = "gate.key"
    client_ca          = "staff-ca.crt"
    client_certificate = "required"
    user_from          = "san_email"

    pair { # the name it has within the branches
      certificate = "gate-branch.crt"
      key         = "gate-branch.key"
    }
  }
  limits {
    connections_per_client = 500
    streams_per_connection = 200
  }
}

# Build machines have no certificates yet: they may show one, or a password, which TLS keeps from being read on the way.
listener "machines" {
  address = "10.41.0.1:8444"
  clients = ["10.41.0.0/24"]
  policy  = policy.machines

  tls {
    certificate        = "gate.crt"
    key                = "gate.key"
    min_version        = "1.3"
    client_ca          = "staff-ca.crt"
    client_certificate = "optional"
    http2              = false # their old client library makes a mess of it
  }
  authenticate { htpasswd = "users.htpasswd" }
}

policy "people" {
  rule "administrators" {
    match {
      user = "*@ops.corp.example"
      host = "*.mgmt.corp.example"
    }
    via  = direct
    tags = ["admin"]
  }

  rule "management network" {
    match { host = "*.mgmt.corp.example" }
    deny { reason = "for administrators only" }
  }

  otherwise { via = direct }
}

policy "machines" {
  rule "packages" {
    match {
      user = "*"
      host = ["deb.example.org", "*.deb.example.org"]
      port = [80, 443]
    }
    via = direct
  }
} # nothing else

test "an administrator reaches the management network" {
  listener = listener.anywhere
  client   = "198.51.100.7"
  user     = "anna@ops.corp.example"
  connect  = "switch1.mgmt.corp.example:443"
  expect {
    rule = "administrators"
    tags = ["admin"]
  }
}

test "others do not" {
  listener = listener.anywhere
  client   = "198.51.100.8"
  user     = "bert@sales.corp.example"
  connect  = "switch1.mgmt.corp.example:443"
  expect { deny = true }
}

test "others reach the rest" {
  listener = listener.anywhere
  client   = "198.51.100.8"
  user     = "bert@sales.corp.example"
  connect  = "www.example.com:443"
  expect {
    policy = policy.people
    via    = direct
  }
}

test "build machines fetch packages" {
  listener = listener.machines
  client   = "10.41.0.5"
  user     = "builder"
  connect  = "security.deb.example.org:443"
  expect { rule = "packages" }
}

test "and nothing else" {
  listener = listener.machines
  client   = "10.41.0.5"
  user     = "builder"
  connect  = "www.example.com:443"
  expect { deny = true }
}
