list "bad" {
  file = "../lists/bad.txt" # ERROR: Wrong entry in a list 3
}
list "gone" {
  file = "nosuch.txt" # ERROR: Cannot read list
}
list "nofile" { # ERROR: Missing argument # WARNING: Not used
}
policy "default" {
  rule "x" {
    match { host = [list.bad, list.gone] }
    via = direct
  }
}
