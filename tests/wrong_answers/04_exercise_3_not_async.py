await js.add_stream(name="BILLS", subjects=["bills.*"])


def bill(order):
    return None
