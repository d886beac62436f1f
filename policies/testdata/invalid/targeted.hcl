listener "untargeted" { # ERROR: Missing argument
  address   = "127.0.0.1:5001"
  protocols = ["forward"]
}
listener "mixed" {
  address   = "127.0.0.1:5002"
  protocols = ["http", "forward"] # ERROR: Protocols that cannot share a listener
  target    = "db.example:5432"
}
listener "asked" {
  address = "127.0.0.1:5003"
  target  = "db.example:5432" # ERROR: Without effect
}
listener "loop" {
  address   = "127.0.0.1:5004"
  protocols = ["forward"]
  target    = "127.0.0.1:5004" # ERROR: Server is this gateway
}
listener "port" {
  address   = "0.0.0.0:5006"
  protocols = ["forward"]
  target    = "db.example" # ERROR: Wrong address
}
listener "users" {
  address   = "127.0.0.1:5007"
  protocols = ["forward"]
  target    = "db.example:5432"
  authenticate { # ERROR: Nobody to be asked
    htpasswd = "../lists/users"
  }
}
listener "everybody" {
  address = "127.0.0.1:5008"
  proxy_protocol {
    from = ["10.0.0.1", "0.0.0.0/0"] # ERROR: Everybody is a balancer
  }
}
listener "nobody" {
  address = "127.0.0.1:5009"
  proxy_protocol { # ERROR: Missing argument
    others = "serve"
  }
}
listener "others" {
  address = "127.0.0.1:5010"
  proxy_protocol {
    from   = "10.0.0.1"
    others = "ignore" # ERROR: Unknown value
  }
}
listener "unix" {
  address = "unix:/run/viaduct/x.sock"
  proxy_protocol {
    from = "10.0.0.1" # ERROR: Without effect
  }
}
listener "open" {
  address = "0.0.0.0:5011" # ERROR: Open proxy
  proxy_protocol {
    from = "10.0.0.1"
  }
}
listener "fine" {
  address   = "0.0.0.0:5012"
  protocols = ["forward"]
  target    = "127.0.0.1:5432"
}
policy "default" {
  rule "denies" {
    match { host = "a.example" }
    send_proxy_protocol = 2 # ERROR: Without effect
    deny {}
  }
  rule "version" {
    match { host = "b.example" }
    send_proxy_protocol = 3 # ERROR: Number out of range
    via                 = direct
  }
  rule "wide" {
    match { port = 25 }
    send_proxy_protocol = 1 # WARNING: Header to everybody
    via                 = direct
  }
  rule "named" {
    match { host = "c.example" }
    send_proxy_protocol = 1
    via                 = direct
  }
  otherwise {
    via                 = direct
    server              = "d.example:80"
    send_proxy_protocol = 2
  }
}
test "a target too many" {
  listener = listener.fine
  connect  = "x.example:443" # ERROR: Target of a forward listener
  expect { rule = "otherwise" }
}
listener "both" {
  address   = ":5020"
  protocols = ["redirect", "tproxy"] # ERROR: Protocols that cannot share a listener # ERROR: Protocols that cannot share a listener
  policy    = policy.kernel
}
listener "secure" {
  address   = ":5021"
  protocols = ["redirect"]
  policy    = policy.kernel
  proxy_protocol { # ERROR: Without effect
    from = "10.0.0.1"
  }
}
listener "socket" {
  address   = "unix:/run/viaduct/y.sock" # ERROR: Unix socket of a transparent listener
  protocols = ["tproxy"]
  policy    = policy.kernel
}
listener "kernel" {
  address   = ":5022"
  protocols = ["tproxy"]
  policy    = policy.kernel
}
gateway {
  direct {
    mark = 0 # ERROR: Wrong mark
  }
}
upstream "marked" {
  url  = "socks5h://jump.example:1080"
  mark = "0x100000000" # ERROR: Wrong mark
}
policy "kernel" {
  rule "by name" { # WARNING: Name not held against the address
    match { host = "*.e.example" }
    via = upstream.marked
  }
  rule "said" {
    match { host = "*.f.example" }
    verify_name = false
    via         = direct
  }
  rule "elsewhere" {
    match { host = "*.g.example" }
    via    = direct
    server = "h.example:443"
  }
  rule "by address" {
    match { host = "10.0.0.1" }
    via = direct
  }
  rule "of others" {
    match {
      host     = "*.i.example"
      protocol = "connect"
    }
    via = direct
  }
  rule "denied" {
    match { host = "*.j.example" }
    deny {}
  }
}
test "a firewall knows no names" {
  policy   = policy.kernel
  redirect = "www.e.example:443" # ERROR: Wrong address
  sni      = "www.e.example"
  expect { rule = "by name" }
}
