await js.add_stream(name="BASKETS", subjects=["baskets.*"], max_msgs=5, discard="new")
