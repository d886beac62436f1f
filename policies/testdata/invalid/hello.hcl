listener "desk" {
  address       = "127.0.0.1:3128"
  sniff_timeout = "1m" # ERROR: Number out of range
}
policy "default" {
  rule "a" {
    match {
      sni  = ["192.0.2.1", "www.example.com"] # ERROR: Pattern that never matches
      alpn = ["h2", "http/2"] # ERROR: Wrong protocol
      ja4  = "t13d" # ERROR: Wrong pattern
    }
    via = direct
  }
  rule "b" {
    match {
      protocol = "http"
      sni      = "www.example.com" # ERROR: Test that never holds
    }
    via = direct
  }
  rule "c" {
    match {
      method = "GET"
      alpn   = "h2" # ERROR: Test that never holds
    }
    via = direct
  }
  rule "d" {
    match { sni = "https://www.example.com/" } # ERROR: Wrong host
    when = tls.snl == "www.example.com" # ERROR: Unknown name
    via  = direct
  }
}
test "a plain request has no TLS" {
  request = "GET http://www.example.com/"
  sni     = "www.example.com" # ERROR: Without effect
  expect { rule = "a" }
}
test "an address" {
  connect = "www.example.com:443"
  sni     = "192.0.2.1" # ERROR: Wrong host
  expect { rule = "a" }
}
