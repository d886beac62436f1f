gateway {
  journal {
    enable    = true # ERROR: Unsupported argument
    keep      = "7" # ERROR: Wrong duration
    keep_size = "1KiB" # ERROR: Journal too small
  }
  records { journald = false } # ERROR: Records without a place
}
listener "desk" {
  address = "127.0.0.1:3128"
}
policy "default" {
  otherwise { via = direct }
}
