policy "default" {
  otherwise { via = direct # ERROR: Invalid single-argument block definition
  }
}
