//! JSON-RPC, subscriptions and metrics over HTTP.
