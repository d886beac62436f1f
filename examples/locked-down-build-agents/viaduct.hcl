# Build agents reach the package registries and nothing else; what a tighter policy would refuse is recorded first.

locals {
  agents = ["10.30.0.0/20"]
}

gateway {
  records { path = "/var/log/viaduct/agents.ndjson" }
  limits {
    connections            = 20000
    connections_per_client = 300
  }
}

listener "agents" {
  address   = "0.0.0.0:3128"
  protocols = ["http"] # no SOCKS here
  clients   = local.agents
}

list "registries" {
  file = "registries.txt"
}

policy "default" {
  rule "plain http" {
    match {
      not { port = 443 }
    }
    deny { reason = "only port 443: ask for a mirror with TLS" }
  }

  rule "publishing is for release agents" {
    match {
      host = ["upload.pypi.example", "publish.npm.example"]
      not { client = "10.30.0.10" }
    }
    deny { reason = "publish from the release agent" }
  }

  rule "git hosting may close" {
    shadow = true # never decides; the record says what it would have done
    match { host = "git.example.org" }
    deny {}
  }

  rule "registries" {
    match { host = list.registries }
    via = direct
    timeouts { idle = "2m" }
  }

  otherwise {
    deny {
      status = 403
      reason = "not on the list: see registries.txt"
    }
  }
}

test "a package" {
  client  = "10.30.1.1"
  connect = "files.pypi.example:443"
  expect {
    rule = "registries"
    via  = direct
  }
}

test "a clone still works" {
  client  = "10.30.1.1"
  connect = "git.example.org:443"
  expect { rule = "registries" }
}

test "nobody publishes by accident" {
  client  = "10.30.1.1"
  connect = "upload.pypi.example:443"
  expect { deny = true }
}

test "the release agent publishes" {
  client  = "10.30.0.10"
  connect = "upload.pypi.example:443"
  expect { rule = "registries" }
}

test "no plain http" {
  client  = "10.30.1.1"
  request = "GET http://files.pypi.example/simple/"
  expect { rule = "plain http" }
}

test "nothing else" {
  client  = "10.30.1.1"
  connect = "paste.example.com:443"
  expect {
    rule   = "otherwise"
    deny   = 403
    reason = "not on the list: see registries.txt"
  }
}
