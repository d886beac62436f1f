listener "a" { # ERROR: No policy
  address = "127.0.0.1:3128"
}
policy "x" {
  otherwise { via = direct }
}
policy "y" {
  otherwise { via = direct }
}
test "unclear" {
  connect = "x.example:443"
  expect { rule = "otherwise" }
}
