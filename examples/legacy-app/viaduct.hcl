# An old program speaks plain HTTP only; the API it needs has moved to TLS.

listener "app" {
  address   = "127.0.0.1:3128"
  protocols = ["http"]
}

policy "default" {
  rule "the API has moved" {
    match {
      host = "api.legacy.example"
      path = "/v1/*"
    }
    via    = direct
    server = "api.example.com:443"
    tls {
      mode        = "upgrade" # plain from the client, verified TLS to the server
      server_name = "api.example.com"
      min_version = "1.3"
    }
    headers {
      set    = { "X-Client" = "legacy-app" }
      remove = ["Cookie"]
    }
  }

  rule "and nothing else" {
    match { host = "*" }
    deny { reason = "this program needs the API only" }
  }
}

test "the API" {
  request = "POST http://api.legacy.example/v1/orders"
  expect {
    rule   = "the API has moved"
    server = "api.example.com:443"
  }
}

test "another path" {
  request = "GET http://api.legacy.example/admin"
  expect { deny = true }
}
