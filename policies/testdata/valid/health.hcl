upstream "a" {
  url = "https://proxy-a.example:8080"
  health { tls = true }
}
upstream "far" { # WARNING: Checked in another place
  url = "socks5h://far.example:1080"
  health { tcp = true }
}
upstream "both" {
  url = "socks5h://both.example:1080"
  health { connect = "www.example.com:443" }
}
pool "p" {
  members   = [upstream.a, [upstream.a, upstream.both], upstream.both]
  fail_back = "off"
  health {
    every       = "1s"
    timeout     = "20s"
    http        = "https://www.example.com/a?b=c"
    method      = "HEAD"
    status      = [204, "200-202", "301"]
    server_name = "other.example.com"
    healthy     = 1000
  }
}
pool "q" {
  members = [upstream.a, direct]
  select  = "fastest"
  warm_up = "2m"
  health { http = "http://[2001:db8::1]:8080" }
}
policy "default" {
  rule "q" {
    match { host = "q.example" }
    via = pool.q
  }
  rule "far" {
    match { host = "far.example" }
    via = [pool.p, upstream.far]
  }
  otherwise { via = pool.p }
}
test "pool" {
  connect = "a.example:443"
  expect { via = pool.p }
}
