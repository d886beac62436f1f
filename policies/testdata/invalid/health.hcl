upstream "a" {
  url = "http://proxy-a.example:8080"
  health { tls = true } # ERROR: TLS to a proxy without TLS
}
upstream "b" {
  url = "https://proxy-b.example:8080"
  health {
    every     = "10ms" # ERROR: Wrong duration
    timeout   = "0s"   # ERROR: Wrong duration
    tcp       = false  # ERROR: Without effect
    healthy   = 0      # ERROR: Number out of range
    unhealthy = 1001   # ERROR: Number out of range
  }
}
pool "one" {
  members = [upstream.a, upstream.b]
  warm_up = "30s" # ERROR: Without effect
  health {
    tcp     = true
    connect = "www.example.com:443" # ERROR: Two checks
    status  = [200] # ERROR: Without effect
    ca      = "ca.pem" # ERROR: Without effect
  }
}
pool "two" {
  members   = [upstream.a, upstream.b]
  select    = "random"
  fail_back = "30s" # ERROR: Without effect
  warm_up   = "never" # ERROR: Wrong duration
  health {
    http   = "ftp://www.example.com/" # ERROR: Wrong URL
    method = "POST"
  }
}
pool "three" {
  members   = [upstream.a, upstream.b]
  fail_back = "soon" # ERROR: Wrong duration
  health {
    http   = "http://www.example.com/"
    method = "POST" # ERROR: Unknown value
    status = [100, "200-100", "ok", 600, "200-299"] # ERROR: Wrong status # ERROR: Wrong status # ERROR: Wrong status # ERROR: Wrong status
    pins   = ["sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="] # ERROR: Without effect
  }
}
pool "four" {
  members = [upstream.a, upstream.b]
  select  = "hash"
  warm_up = "30s" # ERROR: Without effect
  health { http = "https://user:pw@www.example.com/" } # ERROR: Wrong URL
  health { connect = "www.example.com" } # ERROR: Duplicate block
}
policy "default" {
  rule "a" {
    match { host = "a.example" }
    via = pool.one
  }
  rule "b" {
    match { host = "b.example" }
    via = pool.two
  }
  rule "c" {
    match { host = "c.example" }
    via = pool.three
  }
  otherwise { via = pool.four }
}
