"""The packet overlay: members of a session, what they tell each other, and bundles between them."""
