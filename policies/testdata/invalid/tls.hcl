listener "l" {
  address = "127.0.0.1:3128"
}

upstream "plain" { # WARNING: Not used
  url = "http://proxy.example:8080"
  tls { # ERROR: TLS to a proxy without TLS
    ca = "nosuch.pem" # ERROR: Cannot read file
  }
}

upstream "both" { # WARNING: Not used
  url   = "https://proxy.example:8443"
  http2 = false # ERROR: Contradiction
  tls { alpn = ["h2", "http/1.1"] }
}

upstream "wrong" {
  url = "https://proxy.example:8443"
  tls { # ERROR: Missing argument
    system_roots = true              # ERROR: Without effect
    min_version  = "1.4"             # ERROR: Unknown value
    max_version  = "tls"             # ERROR: Unknown value
    ciphers      = ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA265"] # ERROR: Unknown cipher suite
    alpn         = ["http/1.0"]      # ERROR: Wrong protocol
    certificate  = "nosuch.pem"
    pins         = ["sha256/short"]  # ERROR: Wrong pin
    server_name  = "a b"             # ERROR: Wrong name
    verify       = "maybe"           # ERROR: Wrong type
  }
}

policy "default" {
  rule "versions" {
    match { host = "a.example" }
    via = direct
    tls {
      mode        = "upgrade"
      max_version = "1.1" # ERROR: Versions that exclude each other # WARNING: Old version of TLS
    }
  }
  rule "fixed" {
    match { host = "b.example" }
    via = direct
    tls {
      mode        = "upgrade"
      min_version = "1.3"
      ciphers     = ["TLS_RSA_WITH_AES_128_CBC_SHA"] # ERROR: Without effect
    }
  }
  rule "suites" {
    match { host = "c.example" }
    via = direct
    tls {
      mode = "upgrade"
      ciphers = [
        "TLS_AES_128_GCM_SHA256",       # ERROR: Without effect
        "TLS_RSA_WITH_AES_128_CBC_SHA", # WARNING: Weak cipher suite
        "TLS_RSA_WITH_AES_128_CBC_SHA", # ERROR: Duplicate name
      ]
      alpn = ["h2", "h2", ""] # WARNING: Protocol of the client # ERROR: Duplicate name # ERROR: Wrong protocol
      pins = [
        "sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", # ERROR: Wrong pin
        "sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB=",  # ERROR: Wrong pin
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",         # ERROR: Wrong pin
      ]
    }
  }
  rule "open" {
    match { host = "d.example" }
    via = direct
    tls {
      mode   = "upgrade"
      verify = false # WARNING: Certificate not verified
    }
  }
  rule "pinned alone" {
    match { host = "e.example" }
    via = direct
    tls {
      mode   = "upgrade"
      verify = false # WARNING: Certificate not verified
      pins   = ["sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="]
    }
  }
  rule "nothing to verify" {
    match { host = "f.example" }
    via = direct
    tls {
      mode = "passthrough"
      pins = ["sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="] # ERROR: Without effect
    }
  }
  otherwise { via = upstream.wrong }
}
