"""Stands before pydantic in processes of the service that tests start.

Users have no pydantic: only generators of clients bring it. Where it is, Litestar imports it, which
takes a tenth of each start, and adds plugins that nobody else has.
"""

raise ImportError("as for users: pydantic is no part of what storewatch needs")
