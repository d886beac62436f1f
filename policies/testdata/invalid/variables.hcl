variable "unset" { # ERROR: Variable not set
}
variable "typed" {
  type    = number
  default = "x" # ERROR: Wrong type
}
locals {
  gone = env("NOSUCH") # ERROR: Invalid function argument
  file = file("nosuch") # ERROR: Invalid function argument
  name = var.nosuch # ERROR: Unknown name
}
gateway {
  timezone = "Mars/Olympus" # ERROR: Unknown time zone
  name     = "a b" # ERROR: Invalid name
  log { level = "loud" } # ERROR: Unknown value
  limits { connections = "many" } # ERROR: Wrong type
}
policy "default" {
  otherwise { via = direct }
}
