# Three doors of a terminal server, three policies: people with a password, servers by their network, and services of this
# machine by a socket.

listener "people" {
  address = "127.0.0.1:3128" # passwords do not cross the network in the clear
  policy  = policy.people
  authenticate {
    htpasswd = "users.htpasswd" # htpasswd -B users.htpasswd NAME
    realm    = "office"
  }
}

listener "servers" {
  address   = "0.0.0.0:1080"
  protocols = ["socks5"]
  clients   = ["10.41.0.0/24"]
  policy    = policy.servers
  limits { connections_per_client = 50 }
}

listener "local" {
  address = "unix:/run/viaduct/proxy.sock" # guarded by its mode
  mode    = "0660"
  policy  = policy.local
}

upstream "filter" {
  url = "http://filter.corp.example:8080"
}

policy "people" {
  rule "administrators" {
    match { user = "ann" }
    via  = direct
    tags = ["admin"]
  }

  rule "no file sharing" {
    match { host = "*.share.example" }
    deny { reason = "use the company's file server" }
  }

  otherwise { via = upstream.filter }
}

policy "servers" {
  rule "updates" {
    match {
      host = ["deb.example.org", "*.deb.example.org"]
      port = [80, 443]
    }
    via = direct
  }
} # nothing else: a policy without otherwise refuses what no rule took

policy "local" {
  otherwise { via = direct }
}

test "an administrator" {
  listener = listener.people
  user     = "ann"
  connect  = "files.share.example:443"
  expect {
    policy = policy.people
    rule   = "administrators"
    tags   = ["admin"]
  }
}

test "somebody else" {
  listener = listener.people
  user     = "bob"
  connect  = "files.share.example:443"
  expect { deny = true }
}

test "people go through the filter" {
  listener = listener.people
  user     = "bob"
  connect  = "www.example.com:443"
  expect { via = upstream.filter }
}

test "servers fetch updates" {
  listener = listener.servers
  client   = "10.41.0.5"
  socks5   = "security.deb.example.org:443"
  expect { rule = "updates" }
}

test "servers do nothing else" {
  listener = listener.servers
  client   = "10.41.0.5"
  socks5   = "www.example.com:443"
  expect {
    policy = policy.servers
    deny   = true
  }
}

test "programs here" {
  listener = listener.local
  connect  = "www.example.com:443"
  expect {
    policy = policy.local
    via    = direct
  }
}
