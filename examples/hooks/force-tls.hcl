# flow.server_conn = Server(("secure.example.com", 443)) with TLS, for requests to insecure.example.com. The certificate is
# verified for the name of the server that is dialled; a failed handshake is an error and never plain text.
listener "desk" { address = "127.0.0.1:3128" }

policy "default" {
  rule "force TLS" {
    match {
      host   = "insecure.example.com"
      scheme = "http"
    }
    via    = direct
    server = "secure.example.com:443"
    tls { mode = "upgrade" }
  }
  otherwise { via = direct }
}

test "plain requests are taken over TLS" {
  request = "GET http://insecure.example.com/form"
  expect {
    rule   = "force TLS"
    server = "secure.example.com:443"
  }
}

test "tunnels are left alone" {
  connect = "insecure.example.com:443"
  expect { rule = "otherwise" }
}
