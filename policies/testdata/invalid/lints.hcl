# One error does not keep the warnings away that are certain all the same.
listener "a" {
  address = "127.0.0.1:99999" # ERROR: Wrong address
}
listener "b" {
  address = "127.0.0.1:3128"
}
listener "c" {
  address = "127.0.0.1:3128" # ERROR: Address already taken
}
listener "d" {
  address = "127.0.0.1:3128" # ERROR: Address already taken
}
upstream "nobody" { # WARNING: Not used
  url = "http://proxy.example:99999" # ERROR: Wrong port
}
upstream "zero" {
  url = "http://proxy.example:0" # ERROR: Wrong port
}
upstream "corp" {
  url = "http://proxy.example:8080"
  auth { # WARNING: Password in the clear
    username = "x"
    password = env("NOSUCH_PW", "written") # WARNING: Password in the policy
  }
}
policy "default" {
  rule "half" {
    match { user = ["[" ] } # ERROR: Wrong pattern
    via = upstream.corp
  }
  rule "all" {
    via = upstream.zero
  }
  rule "never" { # WARNING: Rule never reached
    match { port = 1 }
    via = direct
  }
}
