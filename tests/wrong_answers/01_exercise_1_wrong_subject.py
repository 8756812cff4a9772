await js.add_stream(
    name="BASKETS",
    subjects=["baskets"],
    max_msgs_per_subject=5,
    discard="new",
    discard_new_per_subject=True,
)
