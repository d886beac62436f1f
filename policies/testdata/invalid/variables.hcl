variable "unset" { # ERROR: Variable not set
}
variable "typed" {
  type    = number
  default = "x" # ERROR: Wrong type
}
locals {
  gone = env("NOSUCH") # ERROR: Environment variable not set
  file = file("nosuch") # ERROR: Cannot read file
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
