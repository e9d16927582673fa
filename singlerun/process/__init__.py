"""Processes: started, identified, signalled, waited for; and what /proc tells of them."""
