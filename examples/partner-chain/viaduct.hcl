# A partner's API is reached through two proxies, one after the other, at an address that only the second one can see.

listener "apps" {
  address   = "127.0.0.1:3128"
  protocols = ["http", "socks5"]
}

upstream "corp" {
  url = "https://proxy.corp.example:8443"
  auth {
    username = "svc-viaduct"
    password = credential("corp")
  }
}

upstream "jump" {
  url = "socks5h://jump.dmz.example:1080" # h: the name of the server is resolved over there
  timeouts { handshake = "5s" }
}

chain "partner" {
  hops = [upstream.corp, upstream.jump] # the first is nearest to us
}

policy "default" {
  rule "partner api" {
    match {
      host = "api.partner.example"
      port = 443
    }
    via    = chain.partner
    server = "10.9.0.5:8443" # dialled in place of the name; the client's TLS still names api.partner.example
    tags   = ["partner"]
  }

  rule "partner's other hosts" {
    match { host = "*.partner.example" }
    via = [upstream.corp, upstream.jump] # the same chain, written in place
  }

  rule "nothing else of the partner's network" {
    match { address = ["10.9.0.0/16"] }
    deny { reason = "only api.partner.example is open" }
  }

  otherwise { via = upstream.corp }
}

test "the API leaves through the jump host, to its inner address" {
  connect = "api.partner.example:443"
  expect {
    rule   = "partner api"
    via    = [upstream.corp, upstream.jump]
    server = "10.9.0.5:8443"
    tags   = ["partner"]
  }
}

test "another port is not the API" {
  connect = "api.partner.example:22"
  expect {
    rule = "partner's other hosts"
    via  = chain.partner
  }
}

test "an address of the partner's network" {
  connect = "10.9.0.6:443"
  expect { deny = true }
}

test "a name that leads there" {
  connect = "www.example.com:443"
  resolve = ["10.9.0.6"]
  expect { rule = "nothing else of the partner's network" }
}

test "the world" {
  connect = "www.example.com:443"
  resolve = ["192.0.2.7"]
  expect { via = upstream.corp }
}
