policy "default" {
  rule "known" {
    match { port = 1 }
    via = direct
  }
  otherwise { via = direct }
}
test "unknown rule" {
  connect = "x.example:1"
  expect { rule = "knwon" } # ERROR: Unknown rule
}
test "no target" { # ERROR: No target
  expect { rule = "known" }
}
test "two targets" {
  connect = "x.example:1"
  socks5  = "x.example:1" # ERROR: Two targets
  expect { rule = "known" }
}
test "no expectation" { # ERROR: No expectation
  connect = "x.example:1"
}
test "wrong" {
  connect = "x.example" # ERROR: Wrong address
  client  = "10.0.0.0/8" # ERROR: Wrong address
  at      = "noon" # ERROR: Wrong time
  resolve = ["x"] # ERROR: Wrong address
  header  = { a = "b" } # ERROR: Without effect
  expect {} # ERROR: Empty block
}
test "ftp" {
  request = "GET ftp://x.example/" # ERROR: Wrong request
  expect {
    via  = direct
    deny = true # ERROR: Two outcomes
  }
}
