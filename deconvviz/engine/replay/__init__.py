"""A recording run forwards again for many changed pictures at once: what occlusion is made of."""
