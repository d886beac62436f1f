policy "default" {
  rule "typo" {
    when = client.usr == "x" || true # ERROR: Unknown name # WARNING: Operand without effect
    via  = direct
  }
  rule "untaken" {
    when = true ? now.hour > 3 : nosuch.x # ERROR: Unknown name
    via  = direct
  }
  rule "not bool" {
    when = target.port # ERROR: Wrong type
    via  = direct
  }
  otherwise {
    when = true # ERROR: Unsupported argument
    via  = direct
  }
}
