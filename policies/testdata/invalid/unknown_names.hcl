upstream "corp_a" { # used by the pool
  url = "http://127.0.0.1:8080"
}
pool "corp" {
  members = [upstream.corp_a, upstream.corp_b] # ERROR: Unknown name
}
policy "default" {
  rule "1" {
    match { host = "1.example" }
    via = upstream.corp_aa # ERROR: Unknown name
  }
  rule "2" {
    match { host = "2.example" }
    via = corp # ERROR: Unknown name
  }
  rule "3" {
    match { host = "3.example" }
    via = "upstream.corp_a" # ERROR: Not a reference
  }
  rule "4" {
    match { host = "4.example" }
    via = upstream.corp # ERROR: Unknown name
  }
  rule "5" {
    match { host = list.nothing } # ERROR: Unknown name
    via = pool.corp
  }
  rule "6" {
    match { host = local.x } # ERROR: Unknown name
    via = direct.x # ERROR: Unknown name
  }
  rule "7" {
    match { host = target.host } # ERROR: Unknown name
    via = true ? direct : direct # ERROR: Not a reference
  }
  rule "8" {
    match { listener = listener.lan } # ERROR: Unknown name
    via = upstream # ERROR: Unknown name
  }
  rule "9" {
    match { listener = "lan" } # ERROR: Unknown name
    via = [direct, upstream.corp_a] # ERROR: Direct in a chain
  }
  otherwise { via = [] } # ERROR: Empty list
}
listener "l" {
  address = "127.0.0.1:3128"
  policy  = policy.defautl # ERROR: Unknown name
}
