upstream "a" {
  url = "proxy.example:8080" # ERROR: Wrong URL
}
upstream "b" {
  url = "sock5://proxy.example:1080" # ERROR: Unknown scheme
}
upstream "c" {
  url = "http://proxy.example" # ERROR: Missing port
}
upstream "d" {
  url = "http://me:secret@proxy.example:8080" # ERROR: Password in a URL
}
upstream "e" {
  url = "http://proxy.example:8080/path" # ERROR: Wrong URL
}
upstream "f" {
  url = "http://[fe80::1%25eth0]:8080" # ERROR: Wrong URL
}
upstream "g" {
  url = "http://0x7f.1:8080" # ERROR: Wrong URL
}
upstream "h" {
  url = "http://proxy.example:8080"
  tls { min_version = "1.0" } # WARNING: Old version of TLS # ERROR: TLS to a proxy without TLS
}
upstream "i" {
  url = "socks4://proxy.example:1080"
  auth {
    username = "x"
    password = credential("corp") # ERROR: SOCKS4 has no passwords
  }
}
upstream "j" {
  url           = "socks5://proxy.example:1080"
  plain_connect = true # ERROR: Without effect
  http2         = true # ERROR: Without effect
  keepalive     = "-3s" # ERROR: Wrong duration
  max_connections = 0.5 # ERROR: Number out of range
}
upstream "k" {
  url = "https://proxy.example:8443"
  tls {
    ca = "nosuch.pem" # ERROR: Cannot read file
  }
  auth { # ERROR: Missing argument
    password = credential("nosuch") # ERROR: Cannot read credential
  }
}
upstream "l" {
  url = "https://proxy.example:8443"
  tls {
    ca = "upstreams.hcl" # ERROR: No certificate
  }
  auth {
    username = "a:b" # ERROR: Wrong user name
    password = "a\r\nb" # ERROR: Control character # WARNING: Password in the policy
  }
}
policy "default" {
  rule "1" {
    match { port = 1 }
    via = [upstream.a, upstream.b, upstream.c, upstream.d]
  }
  rule "2" {
    match { port = 2 }
    via = [upstream.e, upstream.f, upstream.g, upstream.h]
  }
  rule "3" {
    match { port = 3 }
    via = [upstream.i, upstream.j, upstream.k, upstream.l]
  }
}
