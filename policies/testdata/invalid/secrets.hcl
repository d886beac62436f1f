locals {
  secret = credential("corp")
  made   = "x-${local.secret}"
}
upstream "a" {
  url = "http://127.0.0.1:8080/${local.secret}" # ERROR: Secret in an open place
  auth {
    username = local.secret
    password = local.made
    name     = local.secret # ERROR: Secret in an open place
  }
}
policy "default" {
  rule "host" {
    match { host = [local.secret] } # ERROR: Secret in an open place
    via = upstream.a
  }
  rule "when" {
    when = client.user == local.secret # ERROR: Not available in a condition
    via = upstream.a
  }
  rule "called" {
    when = client.user == credential("corp") # ERROR: Not available in a condition
    via = upstream.a
  }
  rule "reason" {
    match { port = 2 }
    deny { reason = local.made } # ERROR: Secret in an open place
  }
}
