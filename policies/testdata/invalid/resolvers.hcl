gateway {
  resolver = resolver.offce # ERROR: Unknown name
}
listener "lan" {
  address   = "127.0.0.1:3128"
  protocols = ["http"]
}
resolver "office" {
  servers = [
    "udp://dns.example",             # ERROR: Wrong name server
    "tsl://192.0.2.1",               # ERROR: Wrong name server
    "https://user:pw@dns.example",   # ERROR: Wrong name server
    "192.0.2.53",
    "udp://192.0.2.53:53",           # ERROR: Duplicate name
    "tcp://127.0.0.1:3128",          # ERROR: Name server is this gateway
  ]
  tls { # ERROR: TLS to a name server without TLS
    alpn = ["dot"] # ERROR: Without effect
  }
  family  = "ipv4" # ERROR: Unknown value
  timeout = "1m"   # ERROR: Wrong duration
  search  = ["corp_example..x"] # ERROR: Wrong name
  hosts   = { "a b" = ["10.0.0.1"] } # ERROR: Wrong name
  hosts_file = "nosuch" # ERROR: Cannot read file
  domain "corp.example" {
    servers = ["system", "10.0.0.1"] # ERROR: System beside others
  }
  domain "Corp.Example." { # ERROR: Duplicate name
    servers = ["10.0.0.1"]
  }
  domain "lab.example" {
    servers = ["10.0.0.1"]
    via     = upstream.lab # ERROR: Datagrams through a route
  }
  domain "pac.example" {
    servers = ["tcp://10.0.0.1"]
    via     = pac.p # ERROR: Names by way of a script
  }
  domain "sys.example" {
    servers = ["system"]
    via     = upstream.lab # ERROR: Without effect
  }
  cache {
    min_ttl     = "1h"
    max_ttl     = "1m"  # ERROR: Wrong duration
    negative    = "no"  # ERROR: Wrong duration
    serve_stale = "30d" # ERROR: Wrong duration
  }
}
resolver "hosts" {
  servers = ["10.0.0.53"]
  hosts   = { "x.example" = ["10.0.0"] } # ERROR: Wrong address
}
resolver "list" {
  servers = ["10.0.0.53"]
  hosts   = ["10.0.0.1"] # ERROR: Wrong type
}
resolver "none" { # ERROR: Missing argument
}
resolver "system" { # ERROR: Invalid name
  servers = ["10.0.0.53"]
}
resolver "one" { # ERROR: Resolvers in a circle
  servers = ["tcp://10.0.0.53"]
  via     = pool.far
}
resolver "two" {
  servers = ["tcp://10.0.0.53"]
  via     = upstream.b
}
upstream "a" {
  url      = "http://a.example:3128"
  resolver = resolver.two
}
upstream "b" {
  url      = "socks5://b.example:1080"
  resolver = resolver.one
}
upstream "c" {
  url = "http://10.0.0.1:3128"
}
pool "far" {
  members = [upstream.c, upstream.a]
}
upstream "lab" {
  url      = "http://10.0.0.2:3128"
  resolver = "two" # ERROR: Not a reference
}
pac "p" {
  url = "https://wpad.example/p.pac"
}
policy "default" {
  resolver = upstream.lab # ERROR: Unknown name
  rule "a" {
    match { host = "a.example" }
    via = upstream.lab
  }
  otherwise { via = pac.p }
}
