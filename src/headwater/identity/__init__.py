"""Which ids are one person. Pure: links in, persons out; whoever calls it keeps both (`headwater.live.persons` does).

keys       normalise and hash identifiers, refuse those that mean nobody
resolve    connected components of links, in the order of their time, within limits
settings   the limits
"""
