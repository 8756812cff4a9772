await js.add_stream(name="BASKETS", subjects=["baskets.*"], max_msgs_per_subject=5)
