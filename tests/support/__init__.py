"""What tests share that meet the server at its doors: small raw clients, and the server itself."""
