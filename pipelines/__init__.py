"""From shards to batches: DALI, PIL, and the order and the pixels that both share."""
