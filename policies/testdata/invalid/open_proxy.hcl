listener "open" {
  address = "0.0.0.0:3128" # ERROR: Open proxy
}
listener "also" {
  address = "[2001:db8::1]:3128" # ERROR: Open proxy
}
listener "fine" {
  address = "0.0.0.0:3129"
  clients = ["10.0.0.0/8"]
}
listener "taken" {
  address = "0.0.0.0:3129" # ERROR: Address already taken
  clients = "10.0.0.0/8"
}
listener "wrong" {
  address   = "proxy.example:3128" # ERROR: Wrong address
  protocols = ["http", "sock5"] # ERROR: Unknown value
}
listener "unix" {
  address = "unix:/run/x.sock"
  clients = ["10.0.0.0/8"] # ERROR: Networks of a Unix socket
  mode    = "999" # ERROR: Wrong file mode
}
listener "none" { # ERROR: Missing argument
}
gateway {
  admin { address = "0.0.0.0:9090" } # ERROR: Control door open to the network
  records {} # ERROR: Records without a place
}
policy "default" {
  otherwise { via = direct }
}
