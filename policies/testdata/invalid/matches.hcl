list "nets" {
  file = "../lists/nets.txt"
  type = "networks"
}
policy "default" {
  rule "hosts" {
    match { host = ["https://x.example/", "x.example:443", "10.0.0.0/8", "a b", "/[/", "/x", "0x7f.1", "fe80::1%eth0", "[ab", "bü*"] } # ERROR: Wrong host 10
    via = direct
  }
  rule "empty" {
    match {} # ERROR: Empty block
    via = direct
  }
  rule "empty list" {
    match { host = [] } # ERROR: Empty list
    via = direct
  }
  rule "ports" {
    match { port = [0, 70000, "9-1", "http", 8.5] } # ERROR: Wrong port 5
    via = direct
  }
  rule "networks" {
    match {
      client  = ["10.0.0.0/33", "10.1.2.3/8", "fe80::1%eth0"] # ERROR: Wrong network 3
      address = "example.com" # ERROR: Wrong network
    }
    via = direct
  }
  rule "times" {
    match { time = ["25:00-26:00", "noday", "09:00-09:00", "2026-13-01", "2026-12-24..2026-12-01", "mon 9-17 x"] } # ERROR: Wrong time 6
    via = direct
  }
  rule "words" {
    match {
      protocol = "conect" # ERROR: Unknown value
      scheme   = "ftp" # ERROR: Unknown value
      method   = ["get", "CONNECT"] # ERROR: Wrong method # ERROR: Method that is never seen
      path     = ["api", "/(a|b)/", "/a?b", "/^(/", "/%61//b"] # ERROR: Wrong pattern 5
      header   = { "Bad Name" = "*" } # ERROR: Wrong header field
      resolve  = false # ERROR: Without effect
    }
    via = direct
  }
  rule "not in not" {
    match {
      not {
        port = 1
        not { port = 2 } # ERROR: Unsupported block type
      }
    }
    via = direct
  }
  rule "kind of list" {
    match { host = list.nets } # ERROR: Wrong kind of list
    via = direct
  }
  rule "null" {
    match { host = null } # ERROR: Wrong type
    via = direct
  }
  rule "type" {
    match { host = { a = 1 } } # ERROR: Wrong type
    via = direct
  }
}
