policy "default" {
  rule "none" { # ERROR: No outcome
    match { port = 1 }
  }
  rule "both" {
    match { port = 2 }
    via = direct
    deny {} # ERROR: Two outcomes
  }
  rule "deny with server" {
    match { port = 3 }
    server = "x.example:1" # ERROR: Without effect
    deny { status = 407 } # ERROR: Number out of range
    tls { mode = "upgrade" } # ERROR: Without effect
  }
  rule "server" {
    match { port = 4 }
    via    = direct
    server = "x.example" # ERROR: Wrong address
    tags   = ["a b", "ok"] # ERROR: Wrong tag
    tls {
      mode        = "passthrough"
      server_name = "x" # ERROR: Without effect
    }
  }
  rule "mode" {
    match { port = 5 }
    via = direct
    tls {} # ERROR: Missing argument
    headers {
      set    = { "Content-Length" = "1" } # ERROR: Header field of the connection
      remove = ["Bad Name"] # ERROR: Wrong header field
    }
    retry { on = ["denied"] } # ERROR: Unknown value
  }
  rule "timeouts" {
    match { port = 6 }
    via = direct
    timeouts {
      idle     = "10" # ERROR: Wrong duration
      response = "0s" # ERROR: Wrong duration
    }
  }
  otherwise { via = direct }
  otherwise { via = direct } # ERROR: Duplicate block
}
policy "empty" { # ERROR: Empty policy
}
