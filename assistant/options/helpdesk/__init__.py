"""A reference helpdesk: patients' chats and an agents' desk that holds the panel."""
