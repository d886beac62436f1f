# client.state = CLOSED, for clients in BLOCKED_IPS.
locals {
  blocked = ["192.0.2.66", "198.51.100.0/24"]
}

listener "desk" {
  address = "127.0.0.1:3128"
  clients = ["127.0.0.0/8", "10.0.0.0/8", "192.0.2.0/24"] # anybody else is refused at accept
}

policy "default" {
  rule "blocked clients" {
    match { client = local.blocked }
    deny {
      status = 403
      reason = "this client is blocked"
    }
  }
  otherwise { via = direct }
}

test "a blocked client" {
  client  = "192.0.2.66"
  connect = "www.example.com:443"
  expect {
    rule = "blocked clients"
    deny = 403
  }
}

test "a client of a blocked network" {
  client  = "198.51.100.7"
  request = "GET http://www.example.com/"
  expect { deny = 403 }
}

test "its neighbour" {
  client  = "192.0.2.67"
  connect = "www.example.com:443"
  expect {
    rule = "otherwise"
    via  = direct
  }
}
