"""From usage to USD: by the prices of the user, the host, the platform, the provider, in this order."""
