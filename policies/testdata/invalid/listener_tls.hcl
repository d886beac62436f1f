listener "a" {
  address = "127.0.0.1:3128"
  tls { # ERROR: Missing argument
    certificate = "../nosuch.crt"
  }
}
listener "b" {
  address = "127.0.0.1:3129"
  tls {
    certificate        = "../nosuch.crt" # ERROR: Cannot read file
    key                = "../nosuch.key" # ERROR: Cannot read file
    min_version        = "1.0"           # ERROR: Unknown value
    client_certificate = "requird"       # ERROR: Unknown value # ERROR: Missing argument
    user_from          = "cn"            # ERROR: Missing argument
    pair {}                              # ERROR: Missing argument
  }
}
listener "c" {
  address = "0.0.0.0:3130" # ERROR: Open proxy
  tls {
    certificate        = "../lists/nets.txt" # ERROR: Certificate and key
    key                = "../lists/nets.txt"
    client_ca          = "../lists/nets.txt" # ERROR: No certificate
    client_certificate = "optional"
    user_from          = "mail" # ERROR: Unknown value
    cyphers            = "all"  # ERROR: Unsupported argument
  }
}
listener "d" {
  address = "127.0.0.1:3131"
  limits { streams_per_connection = 10 } # ERROR: Streams without HTTP/2
}
policy "default" {
  otherwise { via = direct }
}
