"""What tests share: builders, labs of network namespaces, captures made to order, vectors."""
