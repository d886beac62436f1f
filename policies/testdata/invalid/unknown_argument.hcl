policy "default" {
  rule "a" {
    match { hots = "x.example" } # ERROR: Unsupported argument
    via = direct
  }
  otherwise { via = direct } # ok
}
gatewai { # ERROR: Unsupported block type
}
