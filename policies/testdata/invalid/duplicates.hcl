upstream "a" {
  url = "http://127.0.0.1:8080"
}
upstream "a" { # ERROR: Duplicate name
  url = "http://127.0.0.1:8081"
}
locals {
  x = "y.example"
}
locals {
  x = 2 # ERROR: Duplicate name
}
gateway {
  log { level = "info" }
  log { level = "debug" } # ERROR: Duplicate block
}
gateway {} # ERROR: Duplicate block
policy "default" {
  rule "r" {
    match { host = local.x }
    via = upstream.a
  }
  rule "r" { # ERROR: Duplicate name
    match { host = "z.example" }
    via = direct
  }
  rule "otherwise" { # ERROR: Invalid name
    match { host = "otherwise.example" }
    via = direct
  }
  otherwise { via = direct }
}
test "t" {
  connect = "x.example:1"
  expect { rule = "r" }
}
test "t" { # ERROR: Duplicate name
  connect = "x.example:1"
  expect { rule = "r" }
}
pool "has space" { # ERROR: Invalid name
  members = [upstream.a, upstream.a] # ERROR: Duplicate member
}
