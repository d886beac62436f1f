listener "lan" {
  address   = "127.0.0.1:3128"
  protocols = ["http"]
}
policy "default" {
  rule "a" {
    match {
      host = "ads.example"
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
