gateway {
  journal { # ERROR: Not in this version
    path = "/var/lib/viaduct/journal"
  }
}
listener "lan" {
  address   = "127.0.0.1:3128"
  protocols = ["http"]
}
list "ads" {
  url = "https://lists.example/ads.txt" # ERROR: Not in this version
  file = "../lists/ads.txt"
}
policy "default" {
  rule "a" {
    match {
      host = list.ads
      country = "DE" # ERROR: No GeoIP database
      cuntry = "DE" # ERROR: Unsupported argument
    }
    via = direct
  }
  rule "b" {
    via = direct
    tls { mode = "upgrad" } # ERROR: Unknown value
  }
}
