# Ways of datagrams.
listener "desk" {
  address = "127.0.0.1:1080"
  udp {
    idle_timeout            = "90s"
    associations            = 100
    associations_per_client = 10
    targets                 = 64
  }
}
listener "nowhere" {
  address = "127.0.0.1:1081"
  policy  = policy.web
  udp {} # WARNING: No way for datagrams
}
upstream "web" {
  url = "http://proxy.example:8080"
}
upstream "jump" {
  url = "socks5h://jump.example:1080"
}
upstream "old" {
  url = "socks4://old.example:1080"
}
pool "mixed" {
  members = [upstream.web, upstream.jump]
}
chain "two" {
  hops = [upstream.web, upstream.jump]
}
policy "default" {
  rule "queries" {
    match {
      protocol = "socks5-udp"
      port     = 53
    }
    via = direct
  }
  rule "mixed" {
    when = protocol == "socks5-udp" && target.port == 123
    via  = pool.mixed
  }
  rule "two" {
    match { port = 500 }
    via = chain.two
  }
  rule "old" {
    match { port = 501 }
    via = upstream.old
  }
  rule "secure" {
    match { port = 502 }
    via = direct
    tls { mode = "upgrade" }
  }
  rule "no games" {
    match {
      protocol = "socks5-udp"
      port     = "27000-27100"
    }
    deny { reason = "no games" }
  }
  otherwise { via = upstream.jump }
}
policy "web" {
  rule "requests" {
    match { scheme = "http" }
    via = direct
  }
  rule "connections" {
    match { protocol = ["connect", "socks5"] }
    via = direct
  }
  otherwise { via = upstream.web }
}
test "a query" {
  udp = "dns.example:53"
  expect {
    rule = "queries"
    via  = direct
  }
}
test "time" {
  udp = "192.0.2.1:123"
  expect { via = pool.mixed }
}
test "behind another hop" {
  udp = "192.0.2.1:500"
  expect {
    rule = "two"
    deny = true
  }
}
test "socks4 knows no datagrams" {
  udp = "192.0.2.1:501"
  expect { deny = true }
}
test "nor does TLS" {
  udp = "192.0.2.1:502"
  expect { deny = true }
}
test "games" {
  udp = "192.0.2.1:27015"
  expect {
    deny   = true
    reason = "no games"
  }
}
test "the same port as a connection" {
  socks5 = "192.0.2.1:500"
  expect {
    rule = "two"
    deny = false
  }
}
