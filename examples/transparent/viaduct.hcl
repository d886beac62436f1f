# The firewall sends the web traffic of a network here. Its machines know of no proxy.

listener "web" {
  address   = ":3129"
  protocols = ["redirect"] # or "tproxy", see README.md
  clients   = ["10.20.0.0/16", "fd00:20::/32"]
}

upstream "corp" {
  url = "http://proxy.corp.example:8080"
}

policy "default" {
  # By name, whatever name server the client asked: the name must have the address that it connects to.
  rule "updates" {
    match { host = ["deb.debian.org", "*.ubuntu.com"] }
    verify_name = true
    via         = direct
  }

  # The proxy is told the name and resolves it itself, so it does not matter which address the client found.
  rule "partners" {
    match { host = "*.partner.example" }
    send_name = true
    via       = upstream.corp
  }

  # By address: nothing is looked into.
  rule "time clocks" {
    match {
      client  = "10.20.7.0/24"
      address = "192.0.2.0/24"
    }
    via = direct
  }

  otherwise {
    deny { reason = "not one of the servers that this network may reach" }
  }
}

test "a package mirror, by TLS" {
  client   = "10.20.0.5"
  redirect = "151.101.2.132:443"
  sni      = "deb.debian.org"
  expect {
    rule = "updates"
    via  = direct
  }
}

test "a package mirror, by plain HTTP" {
  client   = "fd00:20::5"
  redirect = "[2a04:4e42::644]:80"
  request  = "GET http://deb.debian.org/debian/dists/stable/InRelease"
  expect { rule = "updates" }
}

test "a partner" {
  client   = "10.20.0.5"
  redirect = "198.51.100.7:443"
  sni      = "api.partner.example"
  expect {
    rule = "partners"
    via  = upstream.corp
  }
}

test "a time clock is not kept waiting for what it says" {
  client   = "10.20.7.9"
  redirect = "192.0.2.80:443"
  sni      = ""
  expect { rule = "time clocks" }
}

test "a client that tells no name" {
  client   = "10.20.0.5"
  redirect = "203.0.113.1:443"
  sni      = ""
  expect { deny = 403 }
}
