# flow.server_conn = Server(("api.internal.com", 443)) where "/api/" is in the path, and another server for "/static/".
# The path is known of plain HTTP requests. Both servers speak TLS, so the rules take the requests over TLS to them.
listener "desk" { address = "127.0.0.1:3128" }

policy "default" {
  rule "api" {
    match { path = "/api/*" }
    via    = direct
    server = "api.internal.com:443"
    tls { mode = "upgrade" }
  }
  rule "static" {
    match { path = "/static/*" }
    via    = direct
    server = "cdn.example.com:443"
    tls { mode = "upgrade" }
  }
  otherwise { via = direct }
}

test "the API" {
  request = "GET http://www.example.com/api/v1/users?page=2"
  expect {
    rule   = "api"
    server = "api.internal.com:443"
  }
}

test "static content" {
  request = "GET http://www.example.com/static/logo.png"
  expect {
    rule   = "static"
    server = "cdn.example.com:443"
  }
}

test "anything else goes where it was going" {
  request = "GET http://www.example.com/"
  expect {
    rule = "otherwise"
    via  = direct
  }
}
