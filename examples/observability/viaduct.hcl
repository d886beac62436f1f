# A gateway that is watched: Prometheus reads its door, and a collector on the same machine takes its traces.

gateway {
  name = "edge-1"

  # Loopback alone: Prometheus, or its agent, runs on this machine.
  admin { address = "127.0.0.1:9099" }

  telemetry {
    traces {
      endpoint     = "http://127.0.0.1:4318"
      service_name = "viaduct"
      sample       = 0.1 # of the flows whose clients say nothing of a trace
    }
  }
}

listener "desk" {
  address = "127.0.0.1:3128"
}

upstream "corp_a" {
  url = "http://proxy-a.corp.example:8080"
}

upstream "corp_b" {
  url = "http://proxy-b.corp.example:8080"
}

pool "corp" {
  members = [upstream.corp_a, upstream.corp_b]
  health { every = "15s" }
}

policy "default" {
  rule "intranet" {
    match { host = ["intranet", "*.corp.example"] }
    via = direct
  }
  otherwise { via = pool.corp }
}

test "inside goes directly" {
  connect = "wiki.corp.example:443"
  expect {
    rule = "intranet"
    via  = direct
  }
}

test "the rest goes through the pool" {
  connect = "www.example.com:443"
  expect { via = pool.corp }
}
