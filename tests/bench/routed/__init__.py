"""What is promised of reception across routers, measured in whole (`tests.support.routed`)."""
