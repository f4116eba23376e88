"""Games and measurements that several studies share."""
