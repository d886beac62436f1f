list "two" {
  url  = "https://lists.example/ads.txt"
  file = "../lists/ads.txt" # ERROR: Two sources
}

list "none" { # ERROR: Missing argument
  type = "hosts"
}

list "ftp" {
  url = "ftp://lists.example/ads.txt" # ERROR: Wrong URL
}

list "secret" {
  url = "https://u:p@lists.example/ads.txt" # ERROR: Wrong URL
}

list "local" {
  file    = "../lists/ads.txt"
  refresh = "1h" # ERROR: Without effect
  via     = direct # ERROR: Without effect
}

list "local tls" { # ERROR: Invalid name
  file = "../lists/ads.txt"
  tls { # ERROR: Without effect
    min_version = "1.3"
  }
}

list "hasty" {
  url        = "https://lists.example/ads.txt"
  refresh    = "1s" # ERROR: Wrong duration
  timeout    = "2h" # ERROR: Wrong duration
  max_size   = "64" # ERROR: Wrong size
  max_shrink = 0 # ERROR: Number out of range
  format     = "adblok" # ERROR: Unknown value
  on_error   = "allow" # ERROR: Unknown value
}

list "huge" {
  url      = "https://lists.example/ads.txt"
  max_size = "2GiB" # ERROR: Wrong size
}

list "clear" {
  url = "http://lists.example/ads.txt"
  tls { # ERROR: Without effect
    min_version = "1.3"
  }
}

pac "wpad" {
  url = "https://wpad.example/wpad.dat"
}

list "by_script" {
  url = "https://lists.example/ads.txt"
  via = pac.wpad # ERROR: List by a PAC script
}

list "nowhere" {
  url = "https://lists.example/ads.txt"
  via = upstream.nosuch # ERROR: Unknown name
}

list "nets" {
  url    = "https://lists.example/nets.txt"
  type   = "networks"
}

list "nets_format" { # ERROR: Without effect
  url    = "https://lists.example/nets.txt"
  type   = "networks"
  format = "adblock"
}

list "page" {
  file   = "../lists/page.html" # ERROR: Not a list
  format = "auto"
}

listener "desk" {
  address = "127.0.0.1:3128"
  clients = list.nets # ERROR: List that changes
}

policy "default" {
  rule "r" {
    match { host = [list.two, list.none, list.ftp, list.secret, list.local, list.hasty, list.huge, list.clear, list.by_script, list.nowhere, list.page] }
    deny {}
  }
  rule "n" {
    match { address = [list.nets, list.nets_format] }
    deny {}
  }
  otherwise { via = pac.wpad }
}
