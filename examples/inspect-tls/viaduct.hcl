# What goes over TLS is looked into where a rule says so: by server name without opening it, and by path inside of it.

gateway {
  records { path = "/var/log/viaduct/records.ndjson" }
  ca {
    certificate = "ca.pem"
    key         = "ca.key"
  }
}

listener "desk" {
  address = "127.0.0.1:3128"
}

policy "default" {
  # Never opened, whatever stands below: banks, health, and programs that pin their server's certificate.
  rule "stays closed" {
    match { host = ["*.bank.example", "*.health.example", "updates.vendor.example"] }
    via  = direct
    tags = ["private"]
  }

  # The name inside must be the one that was asked for; the ClientHello tells it without opening anything.
  rule "another name inside" {
    match { host = "*.cdn.example" }
    when = target.sni_mismatch
    deny { reason = "the tunnel asks for another name than its TLS" }
  }

  # Requests, by path: these rules take what is inside opened tunnels, since tunnels have no path.
  rule "the API is somewhere else" {
    match {
      host = "www.example.com"
      path = "/api/*"
    }
    via    = direct
    server = "api.internal.example:443"
    tls { mode = "upgrade" }
  }
  rule "no uploads to the paste bin" {
    match {
      host   = "paste.example"
      method = ["POST", "PUT"]
    }
    deny { reason = "nothing is pasted from here" }
  }

  # Opened: each request inside is decided by the rules from the top.
  rule "opened" {
    match {
      host = ["www.example.com", "paste.example"]
      port = 443
    }
    via  = direct
    tags = ["opened"]
    tls {
      mode             = "intercept"
      on_client_reject = "passthrough" # programs with pins of their own are learnt, and said to be
    }
  }

  otherwise { via = direct }
}

test "a bank is not opened" {
  connect = "www.bank.example:443"
  expect {
    rule = "stays closed"
    tls  = "passthrough"
  }
}

test "the paste bin is opened" {
  connect = "paste.example:443"
  expect {
    rule = "opened"
    tls  = "intercept"
  }
}

test "reading is allowed" {
  request = "GET https://paste.example/abc"
  expect { rule = "opened" }
}

test "writing is not" {
  request = "POST https://paste.example/"
  expect {
    rule = "no uploads to the paste bin"
    deny = 403
  }
}

test "the API" {
  request = "GET https://www.example.com/api/v1/users"
  expect {
    rule   = "the API is somewhere else"
    server = "api.internal.example:443"
    tls    = "upgrade"
  }
}

test "a front for another name" {
  connect = "a.cdn.example:443"
  sni     = "hidden.example"
  expect { rule = "another name inside" }
}

test "anything else goes through unopened" {
  connect = "www.other.example:443"
  expect {
    rule = "otherwise"
    tls  = "passthrough"
  }
}
