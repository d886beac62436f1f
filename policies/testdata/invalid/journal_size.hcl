gateway {
  journal {
    keep      = "week" # ERROR: Wrong duration
    keep_size = "2 GB" # ERROR: Wrong size
  }
}
listener "desk" {
  address = "127.0.0.1:3128"
}
policy "default" {
  otherwise { via = direct }
}
